"""The one exception that a user's mistake raises."""


class ZoojaxError(Exception):
    """Bad input, said in one line that names the thing and what to do about it.

    The command line prints it and exits with status 2; everything else that is
    raised is a defect of zoojax.
    """
