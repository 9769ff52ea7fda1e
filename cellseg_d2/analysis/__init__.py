"""Looking into trained networks: what they see, and where they look.

Nothing is imported here: a command that needs one part pays for one part.
"""
