"""The three clips of MagnaTagATune that are known to be damaged; everybody leaves them out.

Source: `aux/mtt/partition_gt.py` of github.com/jordipons/musicnn-training. All three stand in training folders, so the usual
split has 18,709 training clips, of which 18,706 can be used.
"""

from __future__ import annotations

KNOWN_BAD = {  # (clip_id, mp3_path) -> what is wrong with it
    (35644, "6/norine_braun-now_and_zen-08-gently-117-146.mp3"): "no file",
    (
        55753,
        "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
    ): "corrupted",
    (
        57881,
        "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
    ): "corrupted",
}


def explain_known_bad(clip_id: int, mp3_path: str) -> str | None:
    """Return what is wrong with a clip that is known to be bad; none for all others.

    Both id and path must agree, so that another data set's clip 35644 is never left out.
    """
    reason = KNOWN_BAD.get((clip_id, mp3_path))
    return None if reason is None else f"known bad clip of MagnaTagATune: {reason}"
