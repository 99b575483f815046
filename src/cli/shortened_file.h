#pragma once

namespace transformers::cli {

/// From now on, when another program truncates a mapped model file, the process ends as with any failure: with one line
/// that names the file, and status 1.
void report_shortened_files();

}  // namespace transformers::cli
