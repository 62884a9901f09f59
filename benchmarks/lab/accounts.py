"""Who may use the lab's private registries: accounts, as a pod's pull secret has them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A user of a registry.

    ``bcrypt``: the password's hash in an htpasswd file, of the least cost, because docker-registry computes
    it for each request. ``repositories``: the prefix of those that a token server lets it read.
    """

    user: str
    password: str
    bcrypt: str = ""
    repositories: str = ""

    @property
    def pair(self) -> str:
        """USER:PASSWORD, as ctr and skopeo take it."""
        return f"{self.user}:{self.password}"

    def with_password(self, password: str) -> "Account":
        """The same user with another password, which is a wrong one."""
        return Account(user=self.user, password=password)


TENANT = Account(
    user="tenant",
    password="tenants-own-secret",
    bcrypt="$2b$04$shorthaullabsaltsalt0ucyTjA6FHzlnTwTcqZTyi/Nr5EGWR2Ny",
    repositories="acme/",
)
NEIGHBOUR = Account(
    user="neighbour",
    password="neighbours-own-secret",
    bcrypt="$2b$04$shorthaullabsaltsalt0uIOO6vzDhOeREyCuzsc4pD7vycWvoIpG",
    repositories="globex/",
)
ACCOUNTS = (TENANT, NEIGHBOUR)
"""Two tenants of one registry. Basic authentication lets each read everything, the token server its own."""


def htpasswd(accounts: tuple[Account, ...]) -> str:
    """The file that docker-registry reads."""
    return "".join(f"{account.user}:{account.bcrypt}\n" for account in accounts)
