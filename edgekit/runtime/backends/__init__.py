"""One file per inference engine, behind one small `Session` protocol."""
