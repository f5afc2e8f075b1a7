"""The zoos' CNNs: architectures, layers, initialization."""
