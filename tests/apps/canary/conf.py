"""Settings of the canaries' site. Knows nothing of telemetry."""

from __future__ import annotations

import json
import os
from urllib.parse import urlsplit

SECRETS: dict[str, str] = json.loads(os.environ["CANARIES"])

SECRET_KEY = SECRETS["setting SECRET_KEY"]
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "app"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = None

_url = urlsplit(os.environ["CANARY_DATABASE"])
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql", "NAME": _url.path.strip("/"), "USER": _url.username,
        "PASSWORD": SECRETS["database password"], "HOST": _url.hostname, "PORT": _url.port,
    }
}  # fmt: skip
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["CANARY_REDIS"]}}
