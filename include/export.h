#pragma once

/// Before the name of a namespace in a public header: what is declared there is exported from the shared library, which
/// is compiled with -fvisibility=hidden and exports nothing else.
#define TRANSFORMERS_API [[gnu::visibility("default")]]
