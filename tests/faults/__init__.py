"""What dies or breaks while messages flow, and a verifier that knows every one of them.

Publishers, clients and Chromium windows are processes of their own; each writes down what it did. Afterwards the
verifier compares that with what Redis holds.
"""
