"""The Helm chart of the service, its check, and its rendered examples (docs/kubernetes.md)."""
