"""Speed and memory, measured side by side with plain code on the same bytes."""
