"""WHAT IS SAID: the wire's objects as structs, and the codec between them and bytes."""
