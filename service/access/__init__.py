"""Who may call: the keys of callers, their scopes and their quotas (docs/access.md)."""
