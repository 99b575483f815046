#pragma once

// LibTorch is built with Gloo and ships its own header over it, but not Gloo's headers. These files declare, with
// nothing defined, what torch/csrc/distributed/c10d/ProcessGroupGloo.hpp of torch 2.11 names. Only gloo_backend.cpp may
// see them, and only to construct the class: objects of these types are never made or touched here.
