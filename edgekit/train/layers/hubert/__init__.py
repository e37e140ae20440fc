"""HuBERT's encoder with an exact length mask, shared by the families `hubert` and `hubert-student`."""
