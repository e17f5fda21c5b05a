"""The resource as other backends get it: scrubbed, and with what the preset's backend joins its signals on."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource

from otel_sentry.detect import resource_attributes
from otel_sentry.privacy import scrub

if TYPE_CHECKING:
    from otel_sentry.settings import Settings

_INSTANCE = "service.instance.id"
_ENVIRONMENT = "deployment.environment.name"
#: Process id -> its instance id; a forked child finds its parent's here, and adds its own.
_instances: dict[int, str] = {}


class Resources:
    """Converts resources; remembers the last one, since all spans of a process share it."""

    def __init__(self, settings: Settings) -> None:
        self._pii = settings.send_default_pii
        self._preset = settings.preset
        self._pid = os.getpid()
        self._is_named = _INSTANCE in resource_attributes(os.environ)
        self._last: tuple[Resource, int, Resource] | None = None

    def of(self, resource: Resource) -> Resource:
        """*resource* as it may leave."""
        last = self._last
        if last is not None and last[0] is resource and last[1] == os.getpid():
            return last[2]
        attributes = scrub(resource.attributes, pii=self._pii)
        if self._preset == "datadog" and _ENVIRONMENT in attributes:
            # Agents before 7.58 know `env` by its former name only.
            attributes.setdefault("deployment.environment", attributes[_ENVIRONMENT])
        # Two processes' series would be one without it, and Prometheus saw their counters jump up and down. The SDK
        # makes one from 1.43 on, which forked workers share.
        if not self._is_named and (_INSTANCE not in attributes or os.getpid() != self._pid):
            attributes[_INSTANCE] = instance_id()
        made = Resource(attributes, resource.schema_url)
        self._last = (resource, os.getpid(), made)
        return made


def instance_id() -> str:
    """A random id of this process, another one in a forked child."""
    # In one step: the queues of several backends ask at the same moment, each on its thread.
    return _instances.setdefault(os.getpid(), str(uuid.uuid4()))
