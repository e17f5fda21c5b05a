"""Everything that speaks Sentry's protocol, and the only place that imports sentry_sdk."""
