"""Sentences to read aloud: short, plain, and with all sounds of English many times over."""

from __future__ import annotations

PROMPTS = (
    "The quick brown fox jumps over a lazy dog near the old stone bridge.",
    "She put five yellow apples and a jug of milk on the kitchen table.",
    "Could you please call my brother and tell him that I will be late?",
    "We watched the thin white clouds drift slowly over the harbour.",
    "Turn the music down a little and switch the lamp on by the door.",
    "Yesterday I found a small blue notebook under the garden chair.",
    "How much does it cost to send this heavy box to the other coast?",
    "A cold wind blew through the valley all night and shook the trees.",
    "Remind me to buy bread, butter and fresh cheese on Thursday morning.",
    "The judge asked the young witness to speak a bit more clearly.",
    "Both of them enjoyed the voyage, though the sea was very rough.",
    "Please add oranges, rice and a bottle of vinegar to my shopping list.",
    "He usually walks to the office unless it rains or snows heavily.",
    "What time does the last train leave for the city on Sunday evening?",
    "Their house stands at the edge of a deep forest full of birds.",
    "I thought the third chapter of that book was better than the rest.",
    "The engine coughed twice, rattled, and then went completely silent.",
    "Set an alarm for half past six and read me the news after that.",
    "Children were laughing and splashing in the shallow pool all day.",
    "Nobody knows exactly why the bell rang so early this morning.",
    "The museum keeps a huge collection of ancient coins and treasure.",
    "Would you rather take the usual road or try the new one instead?",
    "My father measured each board carefully before he cut the wood.",
    "Good night, and thank you very much for showing us the way home.",
)
"""Of edgekit's own, to be used freely."""
