"""Arms of LibriContinual that tune a checkpoint's own weights in torch, by the loop that learns an augment net.

Shapes: P tuned values, B batch, F log-mel frames, M mel bins, T frames, V labels.
"""
