"""Published figures for the data sets that a run's tags and split give away.

Only figures that were read at their source are here. None is per tag: papers print means over the tags.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

# the 50 most frequent tags of MagnaTagATune, the set of all the figures below
MTT_NAMES = (
    "guitar, classical, slow, techno, strings, drums, electronic, rock, fast, piano, ambient, beat, violin, vocal, synth, "
    "female, indian, opera, male, singing, vocals, no vocals, harpsichord, loud, quiet, flute, woman, male vocal, no vocal, "
    "pop, soft, sitar, solo, man, classic, choir, voice, new age, dance, male voice, female vocal, beats, harp, cello, "
    "no voice, weird, country, metal, female voice, choral"
)
# two spellings of ESC-10's classes: of ESC-50's table, and of the older ESC-10 archive
ESC_NAMES = (
    "dog, rain, sea waves, crying baby, clock tick, sneezing, helicopter, chainsaw, rooster, crackling fire",
    "dog bark, rain, sea waves, baby cry, clock tick, person sneeze, helicopter, chainsaw, rooster, fire crackling",
)


@dataclass(frozen=True)
class Published:
    """One published result."""

    model: str
    roc_auc: float | None
    pr_auc: float | None
    accuracy: float | None
    clips: str  # what it was measured on
    source: str


MTT = (
    Published("FCN-4, mel (Choi et al. 2016)", 0.894, None, None, "test part, top 50 tags", "ISMIR 2016 slides"),
    Published(
        "FCN, Lightning re-implementation", 0.8961, 0.4152, None, "test part, clean", "HephaestusProject, README"
    ),
    Published("Short-chunk CNN + Res", 0.9129, 0.4614, None, "test part, clean", "arXiv 2006.00751"),
    Published("Harmonic CNN", 0.9126, None, None, "test part, clean", "minzwon/sota-music-tagging-models, issue 5"),
    Published(
        "FCN-4, ModelZoo", 0.90995, None, None, "random rows: shares pieces with training, not comparable", "its README"
    ),
)
ESC = (
    Published("CNN (Piczak 2015)", None, None, 0.80, "mean over the five folds", "MLSP 2015"),
    Published("random forest (Piczak 2015)", None, None, 0.727, "mean over the five folds", "ACM MM 2015"),
    Published("people", None, None, 0.957, "listening test", "ACM MM 2015"),
)


def find_published(tags: Collection[str]) -> tuple[Published, ...]:
    """Return what was published for the data set with these tags; nothing where it is not known."""
    found = {tag.lower().replace("_", " ") for tag in tags}
    if found == set(MTT_NAMES.split(", ")):
        return MTT
    if any(found == set(names.split(", ")) for names in ESC_NAMES):
        return ESC
    return ()
