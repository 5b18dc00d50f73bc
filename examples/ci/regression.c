/* Put the reproducer of your bug here. Exit 0 means that this trial survived. */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
    for (int round = 0; round < 50; round++) {
        pid_t child = fork();
        if (child == 0)
            _exit(open("/dev/null", O_RDWR) < 0);
        int status;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            return 1;
    }
    return 0;
}
