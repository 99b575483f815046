#pragma once

/// Doubles values in a GPU's memory.
void double_values(float* values, int count);
