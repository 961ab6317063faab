"""The demo users: alice, in the group staff, and bob, in the group chatters."""

from django.contrib.auth.hashers import make_password
from django.db import migrations

DEMO_USERS = {"alice": "staff", "bob": "chatters"}


def create_demo_users(apps, schema_editor):
    User = apps.get_model("auth", "User")
    Group = apps.get_model("auth", "Group")
    for username, group_name in DEMO_USERS.items():
        user, _ = User.objects.get_or_create(username=username, defaults={"password": make_password("demo")})
        group, _ = Group.objects.get_or_create(name=group_name)
        user.groups.add(group)


class Migration(migrations.Migration):
    dependencies = [("auth", "0012_alter_user_first_name_max_length")]

    operations = [migrations.RunPython(create_demo_users, migrations.RunPython.noop)]
