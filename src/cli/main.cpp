#include <c10/util/Exception.h>
#include <malloc.h>
#include <transformers/utils/distributed/torchrun.h>
#include <transformers/version.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "cli/common.h"
#include "cli/shortened_file.h"
#include "cli/usage.h"

namespace transformers::cli {
namespace {

class WarningPrinter : public c10::WarningHandler {
 public:
  void process(const c10::Warning& warning) override { inform("warning: " + warning.msg()); }
};

/// Activations are allocated and freed in blocks of megabytes. If each block were mapped anew, page faults would take a
/// fifth of a prefill.
void keep_activations_in_the_heap() {
  constexpr int kLargestBlock = 32 << 20;  // glibc's own limit
  constexpr int kMostKept = 512 << 20;
  mallopt(M_MMAP_THRESHOLD, kLargestBlock);
  mallopt(M_TRIM_THRESHOLD, kMostKept);
}

/// Every failure ends with this one line on stderr.
int fail(const std::string& message) {
  end_drawn_line();
  print_line("error: " + message);
  return 1;
}

int fail_usage(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  if (error.get_exit_code() == 0) {
    return app.exit(error);  // the help or the version was asked for
  }
  const auto unknown = unknown_word(app, {argv + 1, argv + argc});
  print_line(unknown.empty() ? error.what() : unknown);
  print_line("Run with --help for more information.");
  return 2;
}

int run(int argc, char** argv) {
  CLI::App app("Hugging Face GPT-J and LLaMA in C++: run, generate, inspect and convert model folders.");
  app.set_version_flag("--version", TRANSFORMERS_VERSION);
  app.require_subcommand(1);
  app.fallthrough();
  app.add_flag_callback(
         "--quiet", [] { set_quiet(true); }, "no progress, warnings or statistics on stderr")
      ->trigger_on_parse();
  add_generate(app);
  add_forward(app);
  add_finetune(app);
  add_plot(app);
  add_tokenize(app);
  add_detokenize(app);
  add_inspect(app);
  add_convert(app);
  add_prune(app);
  add_bench(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (const auto* ended = dynamic_cast<const CLI::RuntimeError*>(&error)) {
      return ended->get_exit_code();  // the run was stopped from outside
    }
    return fail_usage(app, error, argc, argv);
  }
  TORCH_CHECK(std::cout.flush(), "stdout: the result could not be written");
  return 0;
}

}  // namespace
}  // namespace transformers::cli

int main(int argc, char** argv) {
  using namespace transformers::cli;
  keep_activations_in_the_heap();
  std::signal(SIGXFSZ, SIG_IGN);  // a file beyond its limit is an error that names it, and does not end the process
  report_shortened_files();
  WarningPrinter printer;
  const c10::WarningUtils::WarningHandlerGuard guard(&printer);
  if (std::getenv("TORCHELASTIC_RUN_ID") != nullptr) {
    return transformers::record([&] { return run(argc, argv); });
  }
  try {
    return run(argc, argv);
  } catch (const c10::Error& error) {
    return fail(error.what_without_backtrace());
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(error.path1().string() + ": " + error.code().message());
  } catch (const std::bad_alloc&) {
    return fail("out of memory");
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
