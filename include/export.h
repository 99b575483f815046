#pragma once

/// Marks a namespace in a public header: its declarations are exported from the shared library, which is compiled with
/// -fvisibility=hidden and exports nothing else.
#define TRANSFORMERS_API [[gnu::visibility("default")]]

/// Of a class that a public header only declares: it is defined in a private one, and is not exported.
#define TRANSFORMERS_PRIVATE [[gnu::visibility("hidden")]]
