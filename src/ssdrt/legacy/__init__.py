"""The UFF road of TensorRT 5 to 8.6: graph surgery, plugins, `.uff` files; without TensorFlow and NVIDIA's wheels."""
