"""Checkpoints of a training by several processes: one writes the file, all read it."""


def _processes(net):
    """The processes of a net's training; None if there is one only."""
    return getattr(net, "processes_", None)


def is_first(net):
    """Whether this process writes files."""
    processes = _processes(net)
    return processes is None or processes.is_first


def of_first(net, error):
    """The error that the process which writes files has met, or its text, or None."""
    processes = _processes(net)
    if processes is None:
        return error
    text = processes.gathered(None if error is None else str(error))[0]
    return error if text is None or error is not None else OSError(text)


def is_seen_by_all(net, path):
    """Whether a file exists.

    Raises
    ------
    ValueError
        If some of the processes see it and others don't.
    """
    processes = _processes(net)
    if processes is None:
        return path.exists()
    seen = processes.gathered(path.exists())
    if any(seen) and not all(seen):
        raise ValueError(
            f"{path} exists for some of the {processes.count} processes only: choose a folder that "
            "all share."
        )
    return all(seen)


def states_of_all(net, states):
    """The states of the random generators of each process, as entries of a checkpoint.

    Those of the first stand where those of a single process do.
    """
    processes = _processes(net)
    if processes is None:
        return states
    first, *others = processes.gathered(states)
    return first | {"others": others}


def state_of_this(net, checkpoint):
    """The states of the random generators that a checkpoint has for this process.

    Raises
    ------
    ValueError
        If it was written by another number of processes.
    """
    processes, others = _processes(net), checkpoint.get("others", [])
    n_now = 1 if processes is None else processes.count
    if len(others) + 1 != n_now:
        raise ValueError(f"number of processes: {len(others) + 1} in the file, {n_now} now")
    return checkpoint if processes is None else [checkpoint, *others][processes.index]
