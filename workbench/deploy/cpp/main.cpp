// Runs the plan in this folder.
//
//   runner --verify              run the test vector and compare: exit status 0 alike, 1 apart
//   runner IN_FOLDER OUT_FOLDER  run arrays of your own: one .npy file for each tensor
//   runner --time 1000           how long one run takes, on the test vector
//
// --folder DIR names the hand-over folder (default: where this program was compiled), --device N the GPU.
// Exit status 2: it cannot be done; a sentence tells why.

#include <cstdlib>
#include <numeric>

#include "engine.hpp"

namespace {

namespace fs = std::filesystem;

struct Options {
  bool verify = false;
  int time = 0;
  int device = 0;
  fs::path folder = DEPLOYMENT_FOLDER;
  std::vector<fs::path> places;
};

char const* const USAGE = "usage: runner [--verify] [--time N] [--folder DIR] [--device N] [IN_FOLDER OUT_FOLDER]";

int number(std::string const& flag, std::string const& text) {
  if (text.empty() || text.size() > 9 || text.find_first_not_of("0123456789") != std::string::npos) {
    throw Failure(flag + " " + text + ": write a whole number. " + USAGE);
  }
  return std::stoi(text);
}

Options parse(std::vector<std::string> const& arguments) {
  Options options;
  for (size_t at = 0; at < arguments.size(); ++at) {
    std::string const& flag = arguments[at];
    bool const takes_value = flag == "--time" || flag == "--folder" || flag == "--device";
    if (takes_value && at + 1 == arguments.size()) throw Failure(flag + " needs a value. " + USAGE);
    if (flag == "--verify") options.verify = true;
    else if (flag == "--time") options.time = number(flag, arguments[++at]);
    else if (flag == "--device") options.device = number(flag, arguments[++at]);
    else if (flag == "--folder") options.folder = arguments[++at];
    else if (flag.rfind("--", 0) == 0) throw Failure(flag + ": there is no such option. " + USAGE);
    else options.places.emplace_back(flag);
  }
  bool const does_something = options.verify || options.time > 0 || !options.places.empty();
  if (!does_something || options.places.size() == 1 || options.places.size() > 2) throw Failure(USAGE);
  return options;
}

// What deployment.txt holds: one 'name=value' in each line.
std::map<std::string, std::string> read_facts(fs::path const& folder) {
  std::ifstream file(folder / "deployment.txt");
  std::map<std::string, std::string> facts;
  for (std::string line; std::getline(file, line);) {
    size_t const equals = line.find('=');
    if (equals != std::string::npos) facts[line.substr(0, equals)] = line.substr(equals + 1);
  }
  for (char const* const name : {"plan", "host_code", "relative", "absolute", "different", "made_by"}) {
    if (facts.count(name) == 0) {
      throw Failure((folder / "deployment.txt").string() + " does not tell " + name + "; copy the whole folder again.");
    }
  }
  return facts;
}

Arrays load_folder(fs::path const& folder, std::vector<std::string> const& tensors) {
  Arrays arrays;
  for (auto const& [tensor, file] : npy::file_names(tensors)) arrays[tensor] = npy::load(folder / file);
  return arrays;
}

void save_folder(fs::path const& folder, Arrays const& arrays, std::vector<std::string> const& tensors) {
  fs::create_directories(folder);
  for (auto const& [tensor, file] : npy::file_names(tensors)) npy::save(folder / file, arrays.at(tensor));
}

// Of floats: the norm of the difference over the norm, and the largest difference.
std::pair<double, double> distances(Array const& expected, Array const& found) {
  double apart = 0.0, norm = 0.0, largest = 0.0;
  for (size_t index = 0; index < expected.count(); ++index) {
    double const left = npy::real(expected, index), right = npy::real(found, index);
    if (std::isfinite(left)) norm += left * left;
    if (left == right || (std::isnan(left) && std::isnan(right))) continue;
    if (!std::isfinite(left) || !std::isfinite(right)) return {INFINITY, INFINITY};
    apart += (left - right) * (left - right);
    largest = std::max(largest, std::abs(left - right));
  }
  return {norm > 0.0 ? std::sqrt(apart / norm) : (apart > 0.0 ? INFINITY : 0.0), largest};
}

double share_different(Array const& expected, Array const& found) {
  size_t different = 0;
  for (size_t index = 0; index < expected.count(); ++index) {
    different += npy::whole(expected, index) != npy::whole(found, index) ? 1 : 0;
  }
  return expected.count() == 0 ? 0.0 : static_cast<double>(different) / static_cast<double>(expected.count());
}

// Prints one line; whether the output is as expected.
bool compare(std::string const& name, Array const& expected, Array const& found,
             std::map<std::string, std::string> const& facts) {
  bool const real = npy::is_float(expected.type);
  if (expected.shape != found.shape || real != npy::is_float(found.type)) {
    std::cout << "APART  " << name << ": " << expected.type << " " << npy::text(expected.shape) << " is expected, found "
              << found.type << " " << npy::text(found.shape) << "\n";
    return false;
  }
  auto const allowed = [&](char const* kind) { return std::strtod(facts.at(kind).c_str(), nullptr); };
  std::ostringstream words;
  bool is_alike = false;
  if (real) {
    auto const [relative, absolute] = distances(expected, found);
    is_alike = relative <= allowed("relative") || absolute <= allowed("absolute");
    words << "relative difference " << relative << " (allowed " << allowed("relative") << "), largest difference "
          << absolute << " (allowed " << allowed("absolute") << ")";
  } else {
    double const share = share_different(expected, found);
    is_alike = share <= allowed("different");
    words << "share of different values " << share << " (allowed " << allowed("different") << ")";
  }
  std::cout << (is_alike ? "alike  " : "APART  ") << name << ": " << words.str() << "\n";
  return is_alike;
}

bool verify(Engine& engine, fs::path const& vector, std::map<std::string, std::string> const& facts) {
  Arrays const found = engine.run(load_folder(vector / "inputs", engine.names(true)));
  Arrays const expected = load_folder(vector / "outputs", engine.names(false));
  bool is_alike = true;
  for (auto const& [name, wanted] : expected) is_alike = compare(name, wanted, found.at(name), facts) && is_alike;
  std::cout << "The expected outputs are " << facts.at("made_by") << ".\n";
  return is_alike;
}

void print_times(std::vector<double> times) {
  double const mean = std::accumulate(times.begin(), times.end(), 0.0) / static_cast<double>(times.size());
  std::sort(times.begin(), times.end());
  size_t const p99 = std::min(times.size() - 1, static_cast<size_t>(0.99 * static_cast<double>(times.size())));
  std::cout << "median " << times[times.size() / 2] << " ms, mean " << mean << " ms, p99 " << times[p99] << " ms of "
            << times.size() << " runs; CUDA events around each enqueue of the engine, inputs and outputs on the GPU\n";
}

int run(Options const& options) {
  auto const facts = read_facts(options.folder);
  fs::path const vector = options.folder / "test_vector";
  Engine engine(options.folder / facts.at("plan"), facts.at("host_code") == "1", options.device);
  bool const is_alike = !options.verify || verify(engine, vector, facts);
  if (!options.places.empty()) {
    save_folder(options.places[1], engine.run(load_folder(options.places[0], engine.names(true))), engine.names(false));
    std::cout << options.places[1].string() << "\n";
  }
  if (options.time > 0) {
    engine.run(load_folder(options.places.empty() ? vector / "inputs" : options.places[0], engine.names(true)));
    print_times(engine.times_ms(options.time));
  }
  return is_alike ? 0 : 1;
}

}  // namespace

int main(int const count, char const* const* const arguments) {
  try {
    return run(parse({arguments + 1, arguments + count}));
  } catch (std::exception const& error) {
    std::cerr << "runner: " << error.what() << "\n";
    return 2;
  }
}
