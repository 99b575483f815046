#pragma once

/// Marks a namespace in a public header: its declarations are exported from the shared library, which is compiled with
/// -fvisibility=hidden and exports nothing else.
#define TRANSFORMERS_API [[gnu::visibility("default")]]
