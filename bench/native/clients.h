/* Code shared by the load generators: the clock, error messages, and the summary of a run. */
#ifndef BENCH_CLIENTS_H
#define BENCH_CLIENTS_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MAX_SAMPLES (1 << 22)
#define PATIENCE 10.0 /* seconds */

static float *samples;
static long taken;

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
fail(const char *what)
{
    perror(what);
    exit(2);
}

static void
wrong(const char *what)
{
    fprintf(stderr, "wrong answer: %s\n", what);
    exit(1);
}

static void
sample(double seconds)
{
    if (taken < MAX_SAMPLES)
        samples[taken++] = (float)seconds;
}

static int
by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double
quantile(double part)
{
    long index = (long)((double)taken * part);
    return samples[index < taken ? index : taken - 1];
}

static void
wait_for_begin(int count)
{
    printf("{\"ready\": %d}\n", count);
    fflush(stdout);
    for (int c = 0; c != '\n' && c != EOF;)
        c = getchar();
}

/* The head of load.c explains the figures. */
static void
sum_up(long requests, double seconds, long all)
{
    qsort(samples, (size_t)taken, sizeof *samples, by_value);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"all\": %ld, \"p50\": %.9f, \"p75\": %.9f, "
           "\"p90\": %.9f, \"p99\": %.9f, \"p99.9\": %.9f, \"p99.99\": %.9f, \"max\": %.9f}\n",
           requests, seconds, all, quantile(.5), quantile(.75), quantile(.9), quantile(.99),
           quantile(.999), quantile(.9999), quantile(1));
}

#endif
