"""The ways something can be wrong: with the whole run, with what it had stored, or with one item of it."""


class StippleError(Exception):
    """The run cannot go on. The message is one line that names the file or setting and what to do about it."""


class Damaged(StippleError):
    """Something stored was damaged and is set aside; the same work, begun again, does without it."""


class Refused(Exception):
    """One item (a file, a frame, a row) cannot be used. The message is the reason that its quarantine row shows."""


class Unanswered(Refused):
    """The same for a reason that may pass, so the next run tries again."""
