"""Honest fakes on real sockets: they power the demo and the tests, and share no parsing code with what they test."""
