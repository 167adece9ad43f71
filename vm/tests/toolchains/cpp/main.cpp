// What a task offers, as C++'s library sees it. See ../README.md for what is printed. Files and directories are C's: this
// build of the library has neither <fstream> nor <filesystem> for WASI.
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

static const char *yes(bool claim) {
    return claim ? "yes" : "no";
}

static std::string content(const std::string &path) {
    std::string text;
    std::FILE *file = std::fopen(path.c_str(), "r");
    for (int c; file && (c = std::getc(file)) != EOF;) {
        text.push_back(static_cast<char>(c));
    }
    std::fclose(file);
    return text;
}

static void write(const std::string &path, const char *mode, const std::string &text) {
    std::FILE *file = std::fopen(path.c_str(), mode);
    std::fwrite(text.data(), 1, text.size(), file);
    std::fclose(file);
}

static bool fails_with(std::errc expected, const char *path, const char *mode) {
    std::FILE *file = std::fopen(path, mode);
    return !file && std::error_code(errno, std::generic_category()) == expected;
}

int main(int argc, char **argv) {
    std::cout << "args:";
    for (int i = 0; i < argc; i++) {
        std::cout << ' ' << argv[i];
    }
    std::cout << "\nMODE=" << std::getenv("MODE") << '\n';

    std::string text{std::istreambuf_iterator<char>(std::cin), {}};
    auto lines = std::count(text.begin(), text.end(), '\n');
    std::cout << "stdin: " << lines << " lines, " << text.size() << " bytes\n";

    std::vector<std::string> names;
    DIR *directory = opendir("data");
    while (const dirent *entry = readdir(directory)) {
        if (entry->d_name[0] != '.') {
            names.emplace_back(entry->d_name);
        }
    }
    closedir(directory);
    std::sort(names.begin(), names.end());
    std::cout << "data:";
    long sum = 0;
    for (const auto &name : names) {
        std::cout << ' ' << name;
        std::istringstream file(content("/data/" + name));
        for (long number; file >> number;) {
            sum += number;
        }
    }
    std::cout << "\nsum: " << sum << '\n';

    using std::errc;
    std::cout << "missing: " << yes(fails_with(errc::no_such_file_or_directory, "data/missing.txt", "r")) << '\n';
    std::cout << "read-only: " << yes(fails_with(errc::read_only_file_system, "data/a.txt", "w")) << '\n';

    using namespace std::chrono;
    auto now = system_clock::now();
    auto before = steady_clock::now(), after = steady_clock::now();
    auto year = year_month_day{floor<days>(now)}.year();
    std::cout << "year: " << static_cast<int>(year) << "\ntime passes: " << yes(after > before) << '\n';
    std::random_device random;
    auto a = random(), b = random();
    std::cout << "random: " << yes(a != b) << '\n';

    write("/out/report.txt", "w", "sum " + std::to_string(sum) + "\n");
    write("out/report.txt", "a", "appended\n");
    mkdir("out/sub", 0777);
    write("tmp/copy", "w", content("data/b.txt"));
    std::rename("tmp/copy", "out/sub/copy.txt");
    write("out/scratch", "w", "");
    std::remove("out/scratch");
    std::cout << "copied: " << content("out/sub/copy.txt").size() << " bytes" << std::endl;

    std::cerr << "done\n";
    return 3;
}
