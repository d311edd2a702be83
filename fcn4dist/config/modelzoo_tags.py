"""The order of ModelZoo's labels and outputs, as its `src/tag.txt` has it: by (share of clips, name), the rarest first.

It is nearly, but not quite, the order of `data.tags: 50` turned around: "no vocal" and "pop" stand the other way. So an order is
never guessed from how often tags occur; this list is recognised by its names.
"""

from __future__ import annotations

_NAMES = (
    "choral, female voice, metal, country, weird, no voice, cello, harp, beats, female vocal, male voice, dance, new age, "
    "voice, choir, classic, man, solo, sitar, soft, no vocal, pop, male vocal, woman, flute, quiet, loud, harpsichord, "
    "no vocals, vocals, singing, male, opera, indian, female, synth, vocal, violin, beat, ambient, piano, fast, rock, "
    "electronic, drums, strings, techno, slow, classical, guitar"
)
MODELZOO_TAGS = tuple(_NAMES.split(", "))
