"""The engine: configs, models, data and the training loop of intervention studies."""
