"""The agreement of training, exporter and service about a model: its manifest, its vocabulary, its inputs."""
