// Loads a checkpoint into this process and continues prompts, without MPI and without a job file:
//     consumer CHECKPOINT PROMPT...
#include <cstdlib>
#include <exception>
#include <iostream>

#include "lib/model/generator.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: consumer CHECKPOINT PROMPT...\n";
    return 2;
  }
  try {
    nemo::Generator generator = nemo::Generator::open(argv[1], {.threads = 1});
    nemo::SamplingParams params;
    params.max_tokens = 16;
    params.temperature = 0;
    for (int i = 2; i < argc; ++i) {
      const nemo::Output output = generator.generate(argv[i], params);
      std::cout << argv[i] << " >" << output.text << " (" << output.finish_reason << ")\n";
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return EXIT_SUCCESS;
}
