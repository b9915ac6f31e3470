//! Compiles convolutional Burn modules for the CPU.
