"""Figures of small dataclasses, drawn with matplotlib; nothing here reads a file."""
