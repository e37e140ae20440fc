"""LibriContinual: how well a recogniser learns one voice from minutes to hours of speech, and what it forgets by that.

After Diwan et al. 2023, "Continual Learning for On-Device Speech Recognition using Disentangled Conformers" (arXiv
2212.01393): 118 speakers of LibriVox with six train splits each, from 10 min to 10 h, validation and test. The authors'
list of speakers is not public, nor are the sizes between the ends: what is built here is LibriContinual-like.
"""
