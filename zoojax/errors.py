"""The exception raised for invalid user input."""


class ZoojaxError(Exception):
    """Invalid user input. The message is one line: what is wrong and how to fix it.

    The command line prints the message and exits with status 2. Any other exception is a bug
    in zoojax.

    Example:
        >>> try:
        ...     zoojax.Grid(seeds=0)
        ... except zoojax.ZoojaxError as error:
        ...     print(error)
        0 members requested; give at least 1
    """


class UnregisteredError(ZoojaxError):
    """An architecture or a sparsifier is not registered, such as one of another user."""
