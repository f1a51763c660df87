"""How one trial is trained: functions of its state and of a batch."""
