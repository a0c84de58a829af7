/* banned.h: include last; poisons functions that are unbounded, locale-dependent or not thread-safe. */
#pragma once
#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol atof gmtime localtime ctime asctime gets
