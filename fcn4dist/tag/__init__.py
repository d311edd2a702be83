"""Tags of whole pieces: windows of audio, their scores, and pictures of them."""
