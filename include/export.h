#pragma once

/// Marks a namespace in a public header: its declarations are exported from the shared library, which is compiled with
/// -fvisibility=hidden and exports nothing else.
#define TRANSFORMERS_API [[gnu::visibility("default")]]

/// Of a class that a public class only declares: a private source defines it, and it is not exported. Classes of the
/// library that a public header only declares are declared in a namespace of their own without TRANSFORMERS_API.
#define TRANSFORMERS_PRIVATE [[gnu::visibility("hidden")]]
