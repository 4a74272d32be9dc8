"""What a judge says of models' responses, with verdicts as honest as those on the loss."""
