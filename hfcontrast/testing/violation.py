"""What the contract suite raises."""


class ContractViolation(AssertionError):
    """A method or an evaluator violates the contract; says which part of it, and where."""


def require(condition: bool, message: str) -> None:
    """Raises a ContractViolation where a condition does not hold."""
    if not condition:
        raise ContractViolation(message)
