"""The usual manage.py: DJANGO_SETTINGS_MODULE is set here and not before."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "small.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
