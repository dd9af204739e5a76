"""Feedback: how it is asked for, turned into levels and put in front of documents."""
