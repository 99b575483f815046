#include "kernel.h"

__global__ void kernel(float* values) { values[threadIdx.x] *= 2; }

void double_values(float* values, int count) { kernel<<<1, count>>>(values); }
