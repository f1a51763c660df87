"""What a network is trained for: a task says loss, prediction and metrics. Classification, pairs, or a user's own."""
