"""The one kind of error whose message is all that a user needs to see."""


class UserError(ValueError):
    """What was asked for cannot be done; the message names it and says the remedy.

    The commands print the message and exit with status 2; any other exception is a fault of the
    program's and keeps its traceback.
    """
