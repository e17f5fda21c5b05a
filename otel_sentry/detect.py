"""What can be known about the deployment without being told: environment, release, host, resource."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

_CI_VARIABLES = (
    "GITHUB_SHA",
    "CI_COMMIT_SHA",
    "CIRCLE_SHA1",
    "BITBUCKET_COMMIT",
    "HEROKU_SLUG_COMMIT",
    "HEROKU_BUILD_COMMIT",
    "SOURCE_VERSION",
    "CODEBUILD_RESOLVED_SOURCE_VERSION",
    "GAE_DEPLOYMENT_ID",
    "RENDER_GIT_COMMIT",
)


def resource_attributes(env: Mapping[str, str]) -> dict[str, str]:
    """``OTEL_RESOURCE_ATTRIBUTES`` as a mapping (percent-decoded); malformed members are skipped."""
    found = {}
    for member in env.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, separator, value = member.partition("=")
        if separator and key.strip():
            found[key.strip()] = unquote(value.strip())
    return found


def environment_of(resource: Mapping[str, str], argv: Sequence[str]) -> tuple[str, str]:
    """The environment and where it came from; "assumed" when nothing names it (decision 27)."""
    for key in ("deployment.environment.name", "deployment.environment"):
        if resource.get(key):
            return resource[key], "OTEL_RESOURCE_ATTRIBUTES"
    if "runserver" in argv[:3]:
        return "development", "runserver"
    return "production", "assumed"


def release_of(resource: Mapping[str, str], env: Mapping[str, str]) -> tuple[str | None, str]:
    """The release and where it came from."""
    if resource.get("service.version"):
        return resource["service.version"], "OTEL_RESOURCE_ATTRIBUTES"
    try:
        commit = git_commit(Path.cwd())
    except OSError:  # the working directory is gone or closed to us
        commit = None
    if commit:
        return commit, "git"
    for variable in _CI_VARIABLES:
        if env.get(variable):
            return env[variable], variable
    return None, "default"


def git_commit(folder: Path) -> str | None:
    """The commit checked out in *folder* or above it, read from the files: no subprocess at start-up.

    Raises:
        OSError: a file of the repository can't be read.

    """
    for parent in (folder, *folder.parents):
        dot_git = parent / ".git"
        if dot_git.is_file():  # a worktree or submodule: "gitdir: <path>"
            text = dot_git.read_text(encoding="utf-8", errors="replace")
            dot_git = (parent / text.partition("gitdir:")[2].strip()).resolve()
        if (dot_git / "HEAD").is_file():
            return _head_commit(dot_git)
    return None


def _head_commit(git_dir: Path) -> str | None:
    head = (git_dir / "HEAD").read_text(encoding="utf-8", errors="replace").strip()
    if not head.startswith("ref:"):
        return head or None
    reference = head[4:].strip()
    common = git_dir
    if (git_dir / "commondir").is_file():
        common = (git_dir / (git_dir / "commondir").read_text(encoding="utf-8").strip()).resolve()
    for base in (git_dir, common):
        if (base / reference).is_file():
            return (base / reference).read_text(encoding="utf-8").strip() or None
    packed = common / "packed-refs"
    if packed.is_file():
        for line in packed.read_text(encoding="utf-8", errors="replace").splitlines():
            commit, _, name = line.partition(" ")
            if name.strip() == reference:
                return commit
    return None


def server_name_of() -> str:
    """The host's name; empty when it has none."""
    try:
        return socket.gethostname()
    except OSError:
        return os.environ.get("HOSTNAME", "")
