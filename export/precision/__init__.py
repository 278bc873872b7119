"""Lower precision: a float32 ONNX file becomes one in FP16, BF16 or INT8.

The types are written into the file, so that every runtime computes the same; its inputs and outputs stay
float32. Activation ranges come from real training images. Nothing here trains.
"""
