"""What a trained model is worth beyond its loss: other models, instructions, benchmarks."""
