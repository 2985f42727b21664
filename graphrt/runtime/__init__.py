"""Plans, the interpreter, and sessions."""
